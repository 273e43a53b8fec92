mod parsing;
mod server;
mod steps;
mod stories;
mod world;
