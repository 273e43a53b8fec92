//! The whole of Sundown with real processes, through the command as it was built.
//!
//! Each test names the statements it proves: those of the founding texts (SEED-n), of the behaviour they stand for (LOGOFF-7,
//! A-25, …) and the sections of the design (design §3.2). `SUNDOWN_TEST_BINARY` runs the suite against another binary.

mod harness;

mod asking;
mod autostart;
mod bad_input;
mod closing;
mod commands;
mod containers;
mod copies;
mod departures;
mod descriptions;
mod doctor;
mod documented;
mod durability;
mod examples;
mod fast_shutdown;
mod folders;
mod library;
mod limits;
mod log;
mod lost_files;
mod metrics;
mod objects;
mod older;
mod outcomes;
mod pictures;
mod places;
mod profiles;
mod queue;
mod reading;
mod repeats;
mod schemas;
mod screens;
mod sendmail;
mod service;
mod shared_logoff;
mod stopping;
mod submissions;
mod wire;
