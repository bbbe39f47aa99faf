"""Heat maps of what a network looks at, and its frequencies and receptive field by depth."""
