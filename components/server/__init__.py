"""The server around the pages: who gets in and by which name, what it says of itself, how it ends."""
