"""Everything that is drawn: pictures, charts and controls. Never torch."""
