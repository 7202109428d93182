#!/bin/sh
# What mpirun takes for ssh: `agent.sh NODE COMMAND…` runs the command in the network namespace of a node, under
# the node's own host name, for ranks that seem to share a machine would talk through its memory.
# FIDELITY_PREFIX, from mpirun's environment, is what the namespaces' names begin with.
node=$1
shift
exec ip netns exec "$FIDELITY_PREFIX-$node" unshare --uts sh -c "hostname $node; $*"
