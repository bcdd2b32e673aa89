//! The cluster's clock.

use std::time::Duration;

use proptest::prelude::*;

use crate::ClusterClock;

const UNIX_MS: u64 = 1_800_000_000_000;
const START: Duration = Duration::from_secs(1000);

#[test]
fn it_follows_slowly_and_never_goes_back() {
    for ahead in [-50i64, 50] {
        let mut clock = ClusterClock::new(UNIX_MS, START);
        clock.settle();
        let other =
            |now: Duration| (UNIX_MS + (now - START).as_millis() as u64).wrapping_add_signed(ahead);
        let mut shown = 0;
        for ms in 0..100_000u64 {
            let now = START + Duration::from_millis(ms);
            if ms % 200 == 0 {
                clock.follow(now, other(now));
            }
            assert!(clock.now_ms(now) >= shown);
            shown = clock.now_ms(now);
            let left = (other(now) as i64 - shown as i64).unsigned_abs();
            let due = 52u64.saturating_sub(ms / 1000).max(2);
            assert!(left <= due, "{left} ms apart after {ms} ms");
            assert!(
                left + ms / 1000 + 2 >= 50,
                "faster than a millisecond in a second"
            );
        }
    }
}

#[test]
fn before_it_is_shown_it_is_set() {
    let mut clock = ClusterClock::new(UNIX_MS + 3_600_000, START);
    clock.follow(START, UNIX_MS);
    assert_eq!(clock.now_ms(START), UNIX_MS);
    clock.exceed(START, UNIX_MS - 5);
    assert_eq!(clock.now_ms(START), UNIX_MS);
    clock.exceed(START, UNIX_MS + 5);
    assert_eq!(clock.now_ms(START), UNIX_MS + 5);
    clock.settle();
    clock.exceed(START, UNIX_MS + 50);
    let later = START + Duration::from_millis(1500);
    assert_eq!(clock.now_ms(later), UNIX_MS + 1505);
    let offset = clock.offset_ns(later);
    assert_eq!(
        (later.as_nanos() as i64 + offset) / 1_000_000,
        UNIX_MS as i64 + 1505
    );
}

proptest! {
    #[test]
    fn whatever_others_show(steps in proptest::collection::vec((0u64..5000, any::<u64>(), any::<bool>()), 1..50)) {
        let mut clock = ClusterClock::new(UNIX_MS, START);
        clock.settle();
        let (mut now, mut shown) = (START, UNIX_MS);
        for (pause, other, is_near) in steps {
            now += Duration::from_millis(pause);
            let next = clock.now_ms(now);
            prop_assert!(next >= shown);
            prop_assert!(next - shown <= pause + pause / 1000 + 1);
            shown = next;
            clock.follow(now, if is_near { shown.wrapping_add(other % 2000).wrapping_sub(1000) } else { other });
            prop_assert!(clock.now_ms(now) == shown);
        }
    }
}
