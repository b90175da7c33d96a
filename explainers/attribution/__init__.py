"""Attribution methods, one to a file; ``method.py`` says what a method is."""
