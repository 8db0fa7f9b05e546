"""PURE. What a pass did, for people: `.status`, conditions, events, history. Decides nothing."""
