"""Writes `report.html`: one page that shows a whole search, from its folder, without a server."""
