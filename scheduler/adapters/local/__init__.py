"""Everything on this one machine: process groups, a unix socket, folders."""
