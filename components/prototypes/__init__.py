"""Whether a decision is ordinary for its class, as the page of prototypes shows it."""
