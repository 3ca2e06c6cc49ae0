"""The attack: servers, clients and programs over one home, killed at random. See docs/reliability.md."""
