/// Whether a server is up, as its checks tell: the first one decides at once, later ones when several in a row say the contrary.
#[derive(Debug, Clone)]
pub struct Streak {
    rise: u32,
    fall: u32,
    up: Option<bool>,
    /// Outcomes in a row against it.
    contrary: u32,
}

impl Streak {
    /// `rise`: so many in a row that passed bring it up; `fall`: so many that failed, down.
    pub fn new(rise: u32, fall: u32) -> Streak {
        Streak {
            rise,
            fall,
            up: None,
            contrary: 0,
        }
    }

    /// A check has passed, or failed. Whether that changes anything.
    pub fn note(&mut self, passed: bool) -> bool {
        if self.up == Some(passed) {
            self.contrary = 0;
            return false;
        }
        self.contrary += 1;
        let enough = if passed { self.rise } else { self.fall };
        if self.up.is_some() && self.contrary < enough {
            return false;
        }
        let is_news = self.up.is_some() || !passed;
        self.up = Some(passed);
        self.contrary = 0;
        is_news
    }

    /// Whether it is up; so is what was never checked.
    pub fn is_up(&self) -> bool {
        self.up.unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After each outcome whether the server is up.
    fn ups(rise: u32, fall: u32, outcomes: &str) -> String {
        let mut streak = Streak::new(rise, fall);
        let mut before = true;
        let up = |outcome| {
            let is_news = streak.note(outcome == '+');
            assert_eq!(is_news, before != streak.is_up());
            before = streak.is_up();
            if before { '+' } else { '-' }
        };
        outcomes.chars().map(up).collect()
    }

    #[test]
    fn what_is_against_it_must_come_in_a_row() {
        assert_eq!(ups(2, 3, "+--+--+---++"), "+++++++++--+");
        assert_eq!(ups(2, 3, "+---+-++"), "+++----+");
        assert_eq!(ups(1, 1, "+-+-"), "+-+-");
    }

    #[test]
    fn the_first_decides() {
        assert_eq!(ups(2, 3, "-+-++"), "----+");
        assert_eq!(ups(2, 3, "+-"), "++");
    }
}
