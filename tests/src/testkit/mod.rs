//! What journeys are made of: a server that can be stopped and started again, a client, the training program, data.

mod client;
mod data;
mod server;
mod train;

pub use client::{Answer, Client};
pub use data::{MINUTE, START, Table, shared_data, wave};
pub use server::Server;
pub use train::train;
