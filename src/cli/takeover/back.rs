//! The way back: our server ends and leaves its bans in the kernel until Fail2Ban has them all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::other::{self, Other};
use super::{Change, Early, OUR_UNIT, THEIR_UNIT, now, say, start_unit, unit_exists};
use crate::address::{Id, Prefix};
use crate::cli::client::{Connection, escaped, wait_for_answer};
use crate::server::handover::Handed;
use crate::server::takeover::{self, Shelter, leftovers};
use crate::time::Time;

/// Without progress for so long, bans that are missing are not waited for any more.
const STALLED: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// Identifiers in one command to a server.
const TOGETHER: usize = 200;

impl Change {
    /// From us to Fail2Ban.
    pub(super) fn back(&self) -> Result<(), Early> {
        let there = Other::find(&self.socket, &self.pidfile);
        if let Some(other) = there.as_ref().filter(|other| !other.is_ours) {
            say(&format!("Fail2Ban runs already: {}; what is left of a change is brought to its end", other.name()));
            let bans = self.all(None)?;
            return self.finish(&bans, None);
        }
        let client = real_client().ok_or_else(|| Early::Nothing("there is no `fail2ban-client`".to_owned()))?;
        let listed = match &there {
            Some(other) => {
                say(&format!("Sekimori runs: {}, socket {}", other.name(), self.socket.display()));
                other.bans().map_err(|why| say(&format!("it does not tell its bans ({why})"))).ok()
            }
            None => {
                say("Sekimori does not run; its database and its table in the kernel are looked at");
                None
            }
        };
        self.tell_of_jails(listed.as_deref());
        for jail in self.jails.iter().filter(|jail| !jail.stock) {
            say(&format!(
                "jail {}: its native action is not Fail2Ban's, which will ban nobody there",
                escaped(&jail.name)
            ));
        }
        let listed: Option<Vec<Handed>> = listed.map(|jails| jails.into_iter().flat_map(|(_, bans)| bans).collect());
        let bans = self.all(listed.as_deref())?;
        if let Some(other) = &there {
            if other.answers {
                say("the bans stay in the kernel while it ends");
            }
            self.stop(other, &["stop", "--keep-bans"])?;
        }
        let mut shelter = None;
        if self.does(&format!("keep {} ban(s) in our table in the kernel", bans.len())) {
            let text = |why| Early::Unfinished(format!("{why}. The bans that were there stay; try again"));
            shelter = Some(Shelter::open(self.kind, &self.jails, &bans, now()).map_err(text)?);
        }
        match &self.database {
            Some(database) => {
                if self.does(&format!("put what it lacks into the database {}", database.display())) {
                    let stored = takeover::store(database, &bans, now()).map_err(Early::Unfinished)?;
                    say(&format!("{stored} ban(s) were put in or changed, the others are there"));
                }
            }
            None => {
                say("there is no database: Fail2Ban is told the bans, each with its jail's full length from now on");
            }
        }
        let unit = self.usual && unit_exists(THEIR_UNIT);
        let how = if unit { format!("systemctl start {THEIR_UNIT}") } else { format!("{} start", client.display()) };
        if self.does(&format!("start Fail2Ban ({how})")) {
            let starting = other::strangers();
            let started = if let Some(pid) = starting.first() {
                say(&format!("it is being started already: process {pid}"));
                let end = Instant::now() + self.timeout;
                let answer = wait_for_answer(&self.socket, "server-status", end, || other::strangers().is_empty());
                answer.map(|_| ()).ok_or_else(|| "it does not answer".to_owned())
            } else if unit {
                start_unit(THEIR_UNIT, &self.socket, self.timeout)
            } else {
                self.start_theirs(&client)
            };
            started.map_err(|why| {
                let again = "correct that and give the command again, or `sekimori takeover`";
                Early::Unfinished(format!("Fail2Ban did not start: {why}. The bans stay in the kernel; {again}"))
            })?;
            if self.database.is_none() {
                self.tell(&bans).map_err(Early::Unfinished)?;
            }
        }
        self.finish(&bans, shelter)
    }

    /// Waits until Fail2Ban has all bans in force, then takes ours out.
    fn finish(&self, bans: &[Handed], shelter: Option<Shelter>) -> Result<(), Early> {
        if self.does("wait until Fail2Ban has them all in force") {
            self.await_bans(bans).map_err(|why| {
                let rest =
                    "Our table stays in the kernel, each ban in it until its end (`nft delete table inet sekimori`)";
                Early::Unfinished(format!("{why}. {rest}"))
            })?;
        }
        if self.does("take our bans out of the kernel") {
            let shelter = shelter.map_or_else(|| Shelter::open(self.kind, &self.jails, &[], now()), Ok);
            shelter.and_then(Shelter::remove).map_err(Early::Unfinished)?;
            let process = Other::find(&self.socket, &self.pidfile).map_or_else(String::new, |other| other.name());
            say(&format!("Fail2Ban runs: {process}, {} ban(s)", bans.len()));
        }
        if self.usual && unit_exists(OUR_UNIT) {
            say("so that Sekimori does not start again with the machine: systemctl disable sekimori");
        }
        Ok(())
    }

    fn start_theirs(&self, client: &Path) -> Result<(), String> {
        let mut command = std::process::Command::new(client);
        command.arg("-c").arg(&self.directory).arg("-s").arg(&self.socket).arg("-p").arg(&self.pidfile);
        // a socket of a server that was killed is in its way
        let output = command.args(["-x", "-b", "start"]).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("`{}`: {error}", client.display()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        Err(String::from_utf8_lossy(&said).trim().chars().take(500).collect())
    }

    /// Has a server ban these by hand.
    fn tell(&self, bans: &[Handed]) -> Result<(), String> {
        let mut server = Connection::open(&self.socket, None).map_err(|error| error.to_string())?;
        let mut by_jail: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for ban in bans {
            by_jail.entry(&ban.jail).or_default().push(&ban.id);
        }
        for (jail, ids) in by_jail {
            for ids in ids.chunks(TOGETHER) {
                other::ask(&mut server, &[&["set", jail, "banip"], ids].concat())?;
            }
        }
        Ok(())
    }

    /// Waits until Fail2Ban lists all bans and, where its stock actions carry them out, the kernel has them.
    fn await_bans(&self, bans: &[Handed]) -> Result<(), String> {
        let stock: BTreeSet<&str> =
            self.jails.iter().filter(|jail| jail.is_native() && jail.stock).map(|jail| &*jail.name).collect();
        let (mut fewest, mut since) = (usize::MAX, Instant::now());
        loop {
            let listed: BTreeSet<(String, String)> = other::bans(&self.socket)?
                .into_iter()
                .flat_map(|(_, bans)| bans.into_iter().map(|ban| (ban.jail, ban.id)))
                .collect();
            let kernel = leftovers::find().addresses;
            let now = now();
            let over =
                |ban: &Handed| ban.bantime >= 0 && Time::from_seconds(ban.time) + ban.bantime as f64 <= now + 1.0;
            // networks Fail2Ban's own actions mostly cannot shut out
            let in_kernel = |ban: &Handed| {
                let prefix: Option<Prefix> = Id::parse(&ban.id).prefix().filter(|prefix| prefix.is_host());
                !stock.contains(&*ban.jail) || prefix.is_none_or(|prefix| kernel.contains(&prefix))
            };
            let missing: Vec<&Handed> = bans
                .iter()
                .filter(|ban| !over(ban))
                .filter(|ban| !listed.contains(&(ban.jail.clone(), ban.id.clone())) || !in_kernel(ban))
                .collect();
            if missing.is_empty() {
                let networks = bans.iter().filter(|ban| stock.contains(&*ban.jail) && !over(ban));
                let networks =
                    networks.filter_map(|ban| Id::parse(&ban.id).prefix()).filter(|prefix| !prefix.is_host());
                let lost: Vec<String> =
                    networks.filter(|prefix| !kernel.contains(prefix)).map(|prefix| prefix.to_string()).collect();
                if !lost.is_empty() {
                    let lost = lost.join(", ");
                    say(&format!("Fail2Ban lists these networks, but its actions do not shut them out: {lost}"));
                }
                return Ok(());
            }
            if missing.len() < fewest {
                (fewest, since) = (missing.len(), Instant::now());
            }
            if since.elapsed() > STALLED {
                let some: Vec<&str> = missing.iter().take(5).map(|ban| &*ban.id).collect();
                return Err(format!("Fail2Ban has not made {} ban(s), such as {}", missing.len(), some.join(", ")));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// The real `fail2ban-client`, not a link to this program.
fn real_client() -> Option<PathBuf> {
    let ours = std::env::current_exe().and_then(std::fs::canonicalize).ok();
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:/usr/bin:/bin";
    let programs = path.split(':').map(|folder| Path::new(folder).join("fail2ban-client"));
    programs.filter(|program| program.is_file()).find(|program| std::fs::canonicalize(program).ok() != ours)
}
