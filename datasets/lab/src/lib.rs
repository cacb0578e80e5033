//! A real small swarm on this machine, with tunable parameters and faults on command.
