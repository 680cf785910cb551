//! What a registry says of a network (RFC 9083), and what its directory says of registries (RFC 9224).

use std::net::IpAddr;

use serde_json::Value;

use crate::address::Prefix;

/// Entities nest; so deep and so many are looked at.
const DEEPEST: usize = 8;
const MOST: usize = 1000;
/// Where nothing is said, the preference is the least (RFC 6350, 5.3).
const LEAST: u64 = 101;

/// A network and whom to write to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first and last address.
    pub range: Option<(IpAddr, IpAddr)>,
    /// The addresses of its abuse contacts, the preferred first; not yet checked.
    pub emails: Vec<String>,
}

/// Reads the answer to a question for an address.
///
/// # Errors
/// If it is no RDAP object of a network.
pub fn network(body: &[u8]) -> Result<Network, String> {
    let object: Value = serde_json::from_slice(body).map_err(|error| format!("the answer is no JSON: {error}"))?;
    if object.get("objectClassName").and_then(Value::as_str).is_some_and(|class| class != "ip network") {
        return Err("the answer is not about a network".to_owned());
    }
    let address = |key: &str| object.get(key)?.as_str()?.split('/').next()?.parse::<IpAddr>().ok();
    let range = address("startAddress").zip(address("endAddress"));
    let range = range.filter(|(start, end)| start <= end && start.is_ipv4() == end.is_ipv4());
    let mut found = Vec::new();
    let mut left = MOST;
    entities(&object, DEEPEST, &mut left, &mut found);
    if range.is_none() && object.get("entities").is_none() {
        return Err("the answer is not about a network".to_owned());
    }
    // a stable sort: among equals the order of the answer holds
    found.sort_by_key(|(preference, _)| *preference);
    let mut emails: Vec<String> = Vec::new();
    for (_, email) in found {
        if !emails.iter().any(|known| known.eq_ignore_ascii_case(&email)) {
            emails.push(email);
        }
    }
    Ok(Network { range, emails })
}

fn entities(object: &Value, deep: usize, left: &mut usize, found: &mut Vec<(u64, String)>) {
    let Some(list) = object.get("entities").and_then(Value::as_array) else { return };
    for entity in list {
        if deep == 0 || *left == 0 {
            return;
        }
        *left -= 1;
        let roles = entity.get("roles").and_then(Value::as_array);
        if roles.is_some_and(|roles| roles.iter().any(|role| role.as_str() == Some("abuse"))) {
            found.extend(emails(entity));
        }
        entities(entity, deep - 1, left, found);
    }
}

/// The `email` properties of an entity's jCard (RFC 7095): name, parameters, type, value.
fn emails(entity: &Value) -> Vec<(u64, String)> {
    let properties = entity.get("vcardArray").and_then(|card| card.get(1)).and_then(Value::as_array);
    let email = |property: &Value| {
        if !property.get(0)?.as_str()?.eq_ignore_ascii_case("email") {
            return None;
        }
        let preference = property.get(1).and_then(|parameters| parameters.get("pref"));
        let preference = preference.and_then(|pref| pref.as_u64().or_else(|| pref.as_str()?.parse().ok()));
        let text = property.get(3)?.as_str()?.trim();
        Some((preference.unwrap_or(LEAST), text.trim_start_matches("mailto:").to_owned()))
    };
    properties.into_iter().flatten().take(MOST).filter_map(email).collect()
}

/// The servers of the registry that has an address, from a directory of registries.
///
/// # Errors
/// If it is no such directory.
pub fn servers(directory: &[u8], address: IpAddr) -> Result<Vec<String>, String> {
    let object: Value =
        serde_json::from_slice(directory).map_err(|error| format!("the directory is no JSON: {error}"))?;
    let services = object.get("services").and_then(Value::as_array).ok_or("the directory has no services")?;
    let host = Prefix::host(address);
    let texts = |value: Option<&Value>| -> Vec<String> {
        let list = value.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut best: Option<(u8, Vec<String>)> = None;
    for service in services {
        let networks = texts(service.get(0)).into_iter().filter_map(|network| network.parse::<Prefix>().ok());
        let Some(length) = networks.filter(|network| network.contains(host)).map(Prefix::length).max() else {
            continue;
        };
        if best.as_ref().is_none_or(|(known, _)| length > *known) {
            best = Some((length, texts(service.get(1))));
        }
    }
    let mut servers = best.map(|(_, servers)| servers).unwrap_or_default();
    servers.sort_by_key(|server| !server.starts_with("https://"));
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entity(roles: &[&str], emails: &[(&str, Option<Value>)], within: Value) -> Value {
        let property = |(email, pref): &(&str, Option<Value>)| {
            let parameters = pref.as_ref().map_or(json!({}), |pref| json!({ "pref": pref }));
            json!(["email", parameters, "text", email])
        };
        let mut card = vec![json!(["version", {}, "text", "4.0"])];
        card.extend(emails.iter().map(property));
        json!({ "objectClassName": "entity", "roles": roles, "vcardArray": ["vcard", card], "entities": within })
    }

    fn read(entities: Value) -> Vec<String> {
        let object = json!({
            "objectClassName": "ip network", "startAddress": "198.51.100.0", "endAddress": "198.51.100.255",
            "entities": entities
        });
        let network = network(object.to_string().as_bytes()).expect("a network");
        assert_eq!(network.range, "198.51.100.0".parse().ok().zip("198.51.100.255".parse().ok()));
        network.emails
    }

    #[test]
    fn abuse_contacts_are_found_wherever_they_nest_and_the_preferred_comes_first() {
        let nested = entity(&["abuse"], &[("abuse@a.example", None)], json!([]));
        assert_eq!(
            read(json!([entity(&["registrant"], &[("info@a.example", None)], json!([nested.clone()])), nested])),
            ["abuse@a.example"]
        );
        let help_first =
            [("help@b.example", None), ("abuse@b.example", Some(json!("1"))), ("c@b.example", Some(json!(2)))];
        assert_eq!(
            read(json!([entity(&["abuse"], &help_first, json!([]))])),
            ["abuse@b.example", "c@b.example", "help@b.example"]
        );
        assert_eq!(
            read(json!([entity(&["technical", "abuse"], &[("t@c.example", None)], json!([]))])),
            ["t@c.example"]
        );
        assert!(read(json!([entity(&["technical", "abuse"], &[], json!([]))])).is_empty());
        assert!(read(json!([entity(&["technical"], &[("t@c.example", None)], json!([]))])).is_empty());
    }

    #[test]
    fn hostile_answers_are_refused_or_cut_short() {
        for bad in ["", "<html>", "[]", "{}", "{\"objectClassName\":\"domain\",\"entities\":[]}", &"[".repeat(100_000)]
        {
            assert!(network(bad.as_bytes()).is_err(), "{bad:.20}");
        }
        let odd = json!([7, null, { "roles": "abuse" }, { "roles": ["abuse"], "vcardArray": [1, 2] },
            { "roles": ["abuse"], "vcardArray": ["vcard", [["email"], ["email", 1, 2, 3], [], "email", ["EMAIL", {}, "text", " x@d.example "]]] }]);
        assert_eq!(read(odd), ["x@d.example"]);
        let deep = (0..30).fold(json!([]), |within, _| json!([entity(&["abuse"], &[("x@e.example", None)], within)]));
        assert_eq!(read(deep), ["x@e.example"]);
        let backwards = br#"{"startAddress": "198.51.100.9", "endAddress": "198.51.100.1", "entities": []}"#;
        assert_eq!(network(backwards).map(|network| network.range), Ok(None));
    }

    #[test]
    fn the_smallest_network_of_the_directory_decides() {
        let directory = json!({ "services": [
            [["198.0.0.0/8", "junk"], ["http://one.example/", "https://one.example/"]],
            [["198.51.0.0/16"], ["https://two.example/"]],
            [["2001:200::/23"], ["https://six.example/"]], 7, []
        ] })
        .to_string();
        let ask = |address: &str| servers(directory.as_bytes(), address.parse().expect("an address"));
        assert_eq!(ask("198.1.2.3"), Ok(vec!["https://one.example/".to_owned(), "http://one.example/".to_owned()]));
        assert_eq!(ask("198.51.100.7"), Ok(vec!["https://two.example/".to_owned()]));
        assert_eq!(ask("2001:200::1"), Ok(vec!["https://six.example/".to_owned()]));
        assert_eq!(ask("203.0.113.1"), Ok(vec![]));
        assert!(servers(b"{}", "192.0.2.1".parse().expect("an address")).is_err());
    }
}
