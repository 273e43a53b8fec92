//! The core's stories, told by events. Each test names the statements it proves.

mod fakes;
mod world;

mod access;
mod advise;
mod clock;
mod crash;
mod ends;
mod explore;
mod fairness;
mod figures;
mod found;
mod giving_up;
mod grants;
mod house;
mod linger;
mod logoff;
mod logon;
mod model;
mod objects;
mod pages;
mod profiles;
mod queue;
mod quotas;
mod reach;
mod renewal;
mod shared_logoff;
mod shutdown;
mod spooler;
mod stop;
mod store_logoff;
mod stores;
mod submit;
mod sweeps;
mod tickets;
mod wording;
