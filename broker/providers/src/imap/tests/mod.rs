mod parsing;
mod server;
mod stories;
mod world;
