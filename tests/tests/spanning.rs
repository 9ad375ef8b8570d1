//! Does money between partitions arrive once, whole, and in some order that one ledger could have had, whatever
//! fails?

use walengine_tests::cluster::{Counts, Profile};
use walengine_tests::seeds::{count, each_of, each_seed};
use walengine_tests::spanning::{Lived, Ran, run, run_lone};

/// A seed of these is eight lives.
const LONE_SEEDS_DEFAULT: u64 = 200;

#[test]
fn what_spans_partitions_has_both_sides_or_neither() {
    let runs = each_seed("spanning::what_spans_partitions", |seed| run(seed, Profile::MIXED));
    let sum = |of: fn(&Ran) -> u64| runs.iter().map(of).sum::<u64>();
    let counts = runs.iter().fold(Counts::default(), |sum, ran| sum + ran.counts);
    let of = |partitions| runs.iter().filter(|ran| ran.partitions == partitions).count();
    let (accepted, refused) = (sum(|ran| ran.accepted), sum(|ran| ran.refused));
    let (posted, released) = (sum(|ran| ran.posted), sum(|ran| ran.released));
    let through = sum(|ran| ran.long_chains[0]);
    let (gathered, emptied) = (sum(|ran| ran.gathered), sum(|ran| ran.emptied));
    let (by_last, in_between) = (sum(|ran| ran.long_chains[1]), sum(|ran| ran.long_chains[2]));
    println!(
        "{} seeds ({} of 2 partitions, {} of 3, {} of 4), {} s simulated: {counts:?}; {} letters lost, {} \
         doubled, {} starts from a snapshot, {} answers; {accepted} transfers between partitions accepted, \
         {refused} refused by the other one; {posted} reservations between them posted, {released} voided or \
         expired, {} postings refused by the other one; chains between them: {} accepted, {} refused by another \
         one, {} at home; of three and more: {through} accepted, {by_last} refused by the last one, {in_between} by \
         one in between; {gathered} gifts between stripes, {emptied} striped accounts emptied; no violation",
        runs.len(),
        of(2),
        of(3),
        of(4),
        sum(|ran| ran.millis) / 1000,
        sum(|ran| ran.mishaps.0),
        sum(|ran| ran.mishaps.1),
        sum(|ran| ran.restored),
        sum(|ran| ran.answers),
        sum(|ran| ran.stood),
        sum(|ran| ran.chains[0]),
        sum(|ran| ran.chains[1]),
        sum(|ran| ran.chains[2]),
    );
    let seeds = runs.len() as u64;
    assert!(
        accepted > 20 * seeds && refused > 5 * seeds,
        "{accepted} accepted and {refused} refused"
    );
    let (chains, stopped) = (sum(|ran| ran.chains[0]), sum(|ran| ran.chains[1]));
    assert!(
        chains > 2 * seeds && 2 * stopped > seeds,
        "{chains} chains accepted, {stopped} refused"
    );
    assert!(posted > seeds && released > 2 * seeds, "{posted} posted and {released} released");
    assert!(
        gathered > 2 * seeds && 4 * emptied > seeds,
        "{gathered} gifts between stripes, {emptied} emptied"
    );
    let wide = (of(3) + of(4)) as u64;
    assert!(
        through >= wide / 2 && by_last >= wide / 20 && in_between >= wide / 20,
        "of three and more partitions: {through} chains accepted, {by_last} refused by the last one, \
         {in_between} by one in between"
    );
}

#[test]
fn a_lone_node_shows_from_its_start_on_what_it_has_answered() {
    let lives = each_of("spanning::a_lone_node_shows", count(LONE_SEEDS_DEFAULT), run_lone);
    let sum = |of: fn(&Lived) -> u64| lives.iter().map(of).sum::<u64>();
    let (acknowledged, lost) = (sum(|it| it.acknowledged), sum(|it| it.lost_words));
    let (asked, chained) = (sum(|it| it.asked), sum(|it| it.chained));
    let seeds = lives.len() as u64;
    println!(
        "{seeds} seeds: {acknowledged} transfers between partitions acknowledged, {chained} of them in chains over \
         three, the words on {lost} not on the disk when the power failed; {asked} starts had to ask the other partition; no violation"
    );
    assert!(
        acknowledged > 100 * seeds && chained > 10 * seeds && lost > seeds && asked > seeds,
        "{chained} in chains, {lost} lost, {asked} asked"
    );
}
