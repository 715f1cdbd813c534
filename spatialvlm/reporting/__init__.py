"""Reports on run folders: the page with tables and plots, comparisons over seeds, cards, attention."""
