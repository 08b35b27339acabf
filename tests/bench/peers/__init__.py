"""The same questions to us and to the peers that a host may have in our place, each installed into a throw-away folder."""
