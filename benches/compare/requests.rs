//! Requests that the broker answers itself, without a store or a provider.

use crate::Bench;
use crate::bus::BusGetId;
use crate::floor::EchoSpeech;
use crate::load::asking;
use crate::measure::{Goal, Line, Measure, Side};
use crate::peers::{Peer, RedisGet};
use crate::wire::SmallRequest;

/// Requests in a round.
const REQUESTS: usize = 4_000;

impl Bench<'_> {
    pub(crate) fn round_trip(&self) -> Vec<Line> {
        let measure = Measure::new("request round trip, 1 client", self.small_requests(1))
            .beside(self.echoes(1), Goal::AtMost(1.15));
        measure.run(self.asked.rounds)
    }

    pub(crate) fn throughput(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for count in [8, 64] {
            let requests = self.asked.scaled(REQUESTS);
            let redis = self.redis.as_ref().map(|redis| {
                asking("redis-server GET", RedisGet(redis), count, requests, redis.pid())
            });
            let measure = Measure::new(
                format!("request throughput, {count} clients"),
                self.small_requests(count),
            )
            .beside(self.echoes(count), Goal::Times(0.85))
            .peer("redis-server", redis, Goal::Times(1.0))
            .peer(
                "dbus-broker",
                self.bus_ids(self.dbus_broker.as_ref(), "dbus-broker GetId", count),
                Goal::Times(2.0),
            )
            .peer(
                "dbus-daemon",
                self.bus_ids(self.bus.as_ref(), "dbus-daemon GetId", count),
                Goal::Times(2.0),
            );
            lines.extend(measure.run(self.asked.rounds));
        }
        lines
    }

    pub(crate) fn small_requests(&self, count: usize) -> Side<'_> {
        let (speech, requests) = (SmallRequest::of(&self.broker), self.asked.scaled(REQUESTS));
        asking("sundown", speech, count, requests, self.broker.pid())
    }

    pub(crate) fn echoes(&self, count: usize) -> Side<'_> {
        let (speech, requests) = (EchoSpeech(&self.echo), self.asked.scaled(REQUESTS));
        asking("epoll echo, same socket type", speech, count, requests, self.echo.pid())
    }

    fn bus_ids<'a>(
        &self,
        bus: Option<&'a Peer>,
        name: &'static str,
        count: usize,
    ) -> Option<Side<'a>> {
        let (bus, requests) = (bus?, self.asked.scaled(REQUESTS));
        Some(asking(name, BusGetId(bus), count, requests, bus.pid()))
    }
}
