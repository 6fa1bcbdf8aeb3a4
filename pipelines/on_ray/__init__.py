"""The same steps on a Ray cluster. Only this room knows Ray; nothing imports it unless `--on ray` asks for it."""
