"""What is claimed: path networks, paths, kernels, laws, and the statements themselves."""
