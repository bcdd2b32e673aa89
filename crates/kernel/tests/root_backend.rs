//! `bpf/backend.bpf.c`, packet by packet.
