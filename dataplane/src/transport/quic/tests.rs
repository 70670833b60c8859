//! QUIC on loopback.
