//! The core's stories, told by events. Each test names the statements it proves.

mod fakes;
mod world;

mod logon;
mod spooler;
mod submit;
