//! A lab's configuration as an operator would edit it.

/// Other routes, and whatever else `rest` has.
pub(super) fn with_routes(text: &str, rest: &str) -> String {
    let end = text.find("\n[[route]]").unwrap_or(text.len());
    format!("{}{rest}", &text[..end])
}

/// Requests that match no route get 404.
pub(super) fn without_default(text: &str) -> String {
    text.replace("default_pool = \"all\"\n", "")
}

/// Without a server, a pool of which it is the only server, and the routes to that.
pub(super) fn without_server(text: &str, server: &str, pool: &str) -> String {
    let (server, pool) = (format!("\"{server}\""), format!("\"{pool}\""));
    let stays = |table: &&str| {
        !(table.starts_with("[[server]]") && table.contains(&server)
            || table.starts_with("[[pool]]") && table.contains(&format!("name = {pool}"))
            || table.starts_with("[[route]]") && table.contains(&format!("pool = {pool}")))
    };
    let tables: Vec<&str> = text.split("\n\n").filter(stays).collect();
    tables.join("\n\n").replace(&format!(", {server}"), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_goes_with_all_that_names_it() {
        let text = "[[server]]\nname = \"s1\"\n\n[[server]]\nname = \"s2\"\n\n[[pool]]\nname = \"all\"\nservers = [\"s1\", \"s2\"]\n\n\
                    [[pool]]\nname = \"c\"\nservers = [\"s2\"]\n\n[[route]]\npath = \"/\"\npool = \"c\"\n";
        let left = "[[server]]\nname = \"s1\"\n\n[[pool]]\nname = \"all\"\nservers = [\"s1\"]";
        assert_eq!(without_server(text, "s2", "c"), left);
    }
}
