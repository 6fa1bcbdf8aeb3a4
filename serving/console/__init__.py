"""What people look at: pages for trying the model, looking up a user and running the endpoint (docs/console.md)."""
