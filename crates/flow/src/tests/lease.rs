//! Whose flows go on at a back end.

use std::net::IpAddr;
use std::time::Duration;

use crate::lease::{Granter, leases};

const NOW: Duration = Duration::from_secs(100);

fn proxy(number: u8) -> IpAddr {
    [10, 77, 0, 10 + number].into()
}

fn granter(number: u8, lease: i32, lists: Option<&[u8]>) -> Granter {
    Granter {
        proxy: proxy(number),
        lease: Duration::from_millis((100_000 + lease) as u64),
        lists: lists.map(|lists| lists.iter().map(|number| proxy(*number)).collect()),
    }
}

fn of_the_first(granters: &[Granter]) -> i32 {
    let (_, lease) = leases(NOW, granters)[0];
    lease.as_millis() as i32 - 100_000
}

#[test]
fn the_flows_of_one_that_is_out_live_on_the_leases_of_all_that_are_left() {
    let left: &[u8] = &[2, 3];
    let two = granter(2, 400, Some(left));
    let three = granter(3, 300, Some(left));
    let all = |first| [first, two.clone(), three.clone()];
    assert_eq!(of_the_first(&all(granter(1, -50, None))), 300);
    assert_eq!(
        of_the_first(&all(granter(1, 50, None))),
        50,
        "its own is good"
    );
    // One of the others still has it in its list, or cannot tell.
    let listed = granter(3, 300, Some(&[1, 2, 3]));
    assert_eq!(
        of_the_first(&[granter(1, -50, None), two.clone(), listed]),
        -50
    );
    let minority = granter(3, 300, None);
    assert_eq!(
        of_the_first(&[granter(1, -50, None), two.clone(), minority]),
        -50
    );
    // One that is left may be about to give the flow away, and does not hear this back end.
    let silent = granter(3, -10, Some(left));
    assert_eq!(
        of_the_first(&[granter(1, -50, None), two.clone(), silent]),
        -50
    );
    assert_eq!(
        of_the_first(&[granter(1, -50, None)]),
        -50,
        "nobody is left"
    );
}
