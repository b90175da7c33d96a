"""What the app is made of, and no part of it: packages pinned with hashes, their licences, known vulnerabilities."""
