"""Model sources in, graph-level modules out: torch.export, then FX nodes straight to `graph` ops."""
