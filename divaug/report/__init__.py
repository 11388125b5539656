"""Output for people: tables, cards, pages and galleries of runs."""
