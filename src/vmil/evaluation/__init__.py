"""How good the agent is: deterministic episodes and their scores."""
