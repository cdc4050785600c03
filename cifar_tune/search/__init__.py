"""The search itself: the only room that knows Ray."""
