"""The page "What did it use?": concepts of a decision, and what each stands for."""
