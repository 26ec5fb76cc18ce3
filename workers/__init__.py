"""What runs on the devices: the agent, training, compression, serving and the probe."""
