"""Ship model bundles, recipes and the toolkit that makes them; nothing here is imported by the bridge's hot path."""
