"""Reference pictures: the index of them, and rows of samples cut to a concept."""
