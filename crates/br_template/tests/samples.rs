//! Lines of real programs, where the folder with them exists.

use br_template::{Miner, MinerLimits};
use std::path::Path;

/// Templates that a person would tell apart, about: fewer than the least hide messages, more than the most hide what they share.
const SAMPLES: [(&str, std::ops::RangeInclusive<usize>); 9] = [
    ("agent-logfmt", 10..=40),
    ("calico", 30..=120),
    ("distributor-logfmt", 1..=4),
    ("drone-json", 6..=6),
    ("ingester-logfmt", 3..=5),
    ("journald", 50..=150),
    ("kafka", 8..=30),
    ("kubernetes", 15..=60),
    ("vault", 1..=1),
];

#[test]
fn samples_have_few_templates() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/events/drain");
    if !folder.is_dir() {
        println!("skipped: there are no samples in {}", folder.display());
        return;
    }
    for (name, expected) in SAMPLES {
        let text = std::fs::read_to_string(folder.join(format!("{name}.txt"))).expect("a sample");
        let mut miner = Miner::new(MinerLimits::default());
        let (mut lines, mut found) = (0, 0);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            lines += 1;
            found += usize::from(miner.observe(line).is_some());
        }
        println!("{name}: {lines} lines, {} templates, {found} with one", miner.len());
        let patterns: Vec<String> = (0..miner.len()).filter_map(|number| miner.pattern(number)).collect();
        assert!(expected.contains(&miner.len()), "{name}: {patterns:#?}");
        assert!(found * 100 >= lines * 99, "{name}: {found} of {lines} lines have a template");
    }
}
