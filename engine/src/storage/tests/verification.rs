//! Verification.

use super::*;

#[test]
fn verification_goes_on_behind_damage() {
    run(async {
        let dir = Dir::new();
        let log = open(&dir).await.log;
        for _ in 0..40 {
            append(&log, 9000).await;
        }
        log.close().await.unwrap();
        let places = standings(&dir).await;
        let (segment, position, _) = places[8];
        flip(&dir.segment(segment), position + HEADER_BYTES as u64);
        let mut seen = Vec::new();
        let report =
            verify::scan(dir.disk(), &dir.partition(), &config(), Tail::default(), |entry| {
                seen.push(entry.header.meta.index);
            })
            .await
            .unwrap();
        assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
        let (place, _) = &report.damage[0];
        assert_eq!((place.position, place.index), (position, 9));
        assert_eq!(report.tail.index, 8);
        let in_segment = places.iter().filter(|place| place.0 == segment).count();
        assert!(seen.len() >= 40 - in_segment && !seen.contains(&9) && seen.contains(&40));
    });
}
