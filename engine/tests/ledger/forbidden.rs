//! Is a request of which something is forbidden decided as if that had not been sent, and is what is
//! forbidden neither logged nor remembered?

use walengine::ledger::{Draft, Ledger, Outcomes};
use walengine_net::model::{FLAG_LINKED, PartitionId, Timestamp, Verdict, event_flags};

use crate::Random;
use crate::generator::Generator;
use crate::model::Model;

const PARTITION: PartitionId = PartitionId(1);
const PARTITIONS: u16 = 4;
const BATCHES: u64 = 400;

#[test]
fn what_is_forbidden_leaves_no_trace_and_the_rest_is_decided() {
    let (mut forbidden_seen, mut malformed_seen, mut decided) = (0, 0, 0);
    for seed in 1..=5 {
        let mut generator = Generator::new(seed, PARTITION, PARTITIONS);
        let (model, mut random) = (Model::new(PARTITION, PARTITIONS), Random::new(!seed));
        let mut bounded = Ledger::new(PARTITION, PARTITIONS);
        let mut plain = Ledger::new(PARTITION, PARTITIONS);
        for batch in 0..BATCHES {
            let now = Timestamp(1_000_000_007 + batch * 10_000_019);
            let events = generator.batch(1 + random.below(30), &model);
            let marks: Vec<_> = events.iter().map(|_| random.chance(200)).collect();
            // Chains as RULES.md has them: a run of linked events, and the one after it.
            let (mut kept, mut fate, mut chain) = (Vec::new(), Vec::new(), 0);
            for at in 0..events.len() {
                if event_flags(&events[at]) & FLAG_LINKED != 0 && at + 1 < events.len() {
                    continue;
                }
                let is_forbidden = marks[chain..=at].contains(&true);
                fate.extend((chain..=at).map(|_| is_forbidden));
                if !is_forbidden {
                    kept.extend_from_slice(&events[chain..=at]);
                }
                chain = at + 1;
            }
            let (mut draft, mut outcomes) = (Draft::new(), Outcomes::new());
            bounded.submit_but(&events, &marks, &mut draft, now, &mut outcomes);
            let (mut expected, mut alone) = (Draft::new(), Outcomes::new());
            // What is due is ended before something is decided only.
            if !kept.is_empty() {
                plain.submit(&kept, &mut expected, now, &mut alone);
            }
            assert_eq!(draft.body, expected.body, "seed {seed}, batch {batch}");
            assert_eq!(bounded.digest(), plain.digest(), "seed {seed}, batch {batch}");
            assert_eq!(outcomes.len(), events.len());
            let mut alone = alone.into_iter();
            for (at, outcome) in outcomes.iter().enumerate() {
                if fate[at] {
                    assert!(outcome.verdict.is_malformed() && outcome.offset.is_none());
                    forbidden_seen += usize::from(outcome.verdict == Verdict::Forbidden);
                    let is_own = outcome.verdict != Verdict::Forbidden
                        && outcome.verdict != Verdict::LinkedEventMalformed;
                    malformed_seen += usize::from(is_own);
                    assert!(outcome.verdict != Verdict::Forbidden || marks[at]);
                } else {
                    assert_eq!(Some(*outcome), alone.next());
                    decided += 1;
                }
            }
            assert_eq!(alone.next(), None);
            for ledger in [&mut bounded, &mut plain] {
                let tail = ledger.next_offset();
                ledger.release(tail);
            }
        }
    }
    assert!(forbidden_seen > 1000 && malformed_seen > 50 && decided > 1000);
}
