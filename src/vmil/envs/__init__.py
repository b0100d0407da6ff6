"""What the agent lives in: simulators seen through a camera, as TorchRL environments."""
