"""What a person sees of runs: tables, cards, pages, galleries."""
