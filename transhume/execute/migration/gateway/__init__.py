"""A site's gateway: stands between hypervisors on unix sockets and the other sites' gateways on TLS."""
