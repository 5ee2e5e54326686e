"""The agent's edges to the network; aiohttp is imported here and in the web provider alone."""
