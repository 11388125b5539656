"""The claims of "Understanding CNN Fragility When Learning With Imbalanced Data", put to the test."""
