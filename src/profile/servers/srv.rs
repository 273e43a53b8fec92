//! SRV records, and which of them is used (RFC 2782).

/// A server that DNS names for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::profile) struct Record {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    /// The host, without the dot that ends its name. It is empty in a record that says that the service is not offered.
    pub(super) target: String,
}

/// Chooses a server: one of the lowest priority, each with a probability of its weight. The number is a random one.
pub(super) fn choose(records: &[Record], random: u32) -> Option<&Record> {
    let offered = || records.iter().filter(|record| !record.target.is_empty() && record.port > 0);
    let first = offered().map(|record| record.priority).min()?;
    let mut equal: Vec<_> = offered().filter(|record| record.priority == first).collect();
    // Records without weight come first: one of them is chosen by the number 0 alone.
    equal.sort_by_key(|record| record.weight > 0);
    let all: u32 = equal.iter().map(|record| u32::from(record.weight)).sum();
    let mut left = random % (all + 1);
    let reached = |record: &&&Record| {
        let weight = u32::from(record.weight);
        let is_reached = left <= weight;
        left = left.saturating_sub(weight);
        is_reached
    };
    equal.iter().find(reached).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, target: &str) -> Record {
        Record { priority, weight, port: 993, target: target.to_owned() }
    }

    /// The hosts that the numbers from 0 on choose.
    fn chosen(records: &[Record], numbers: u32) -> Vec<&str> {
        let target = |random| choose(records, random).map_or("none", |record| &record.target);
        (0..numbers).map(target).collect()
    }

    #[test]
    fn the_lowest_priority_is_chosen() {
        let records = [record(20, 9, "c"), record(10, 0, "a"), record(30, 100, "b")];
        assert_eq!(chosen(&records, 3), ["a"; 3]);
    }

    #[test]
    fn equal_priorities_are_chosen_by_weight() {
        let records = [record(0, 3, "often"), record(0, 0, "seldom"), record(0, 1, "sometimes")];
        assert_eq!(chosen(&records, 5), ["seldom", "often", "often", "often", "sometimes"]);
        // Weights as large as they can be.
        let many = vec![record(0, u16::MAX, "a"); 4000];
        assert_eq!(choose(&many, u32::MAX).map(|record| record.target.as_str()), Some("a"));
        let without = [record(0, 0, "a"), record(0, 0, "b")];
        assert_eq!(chosen(&without, 4), ["a"; 4]);
    }

    #[test]
    fn a_dot_offers_nothing() {
        assert_eq!(choose(&[record(0, 0, "")], 0), None);
        assert_eq!(choose(&[], 7), None);
        assert_eq!(chosen(&[record(0, 0, ""), record(9, 0, "a")], 1), ["a"]);
        assert_eq!(choose(&[Record { port: 0, ..record(0, 0, "a") }], 0), None);
    }
}
