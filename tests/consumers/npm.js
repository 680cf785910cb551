// What the npm package `fail2ban` sees: a name and a value in JSON a line. Arguments: the package, the socket.
const { Fail2Ban, Jail } = require(process.argv[2]);
const server = new Fail2Ban(process.argv[3]);
const door = new Jail('door', process.argv[3]);
const show = async (name, what) => {
  try {
    console.log(name, JSON.stringify(await what()));
  } catch (error) {
    console.log(name, 'error', String(error.message || error));
  }
};
(async () => {
  await show('ping', () => server.ping());
  await show('status', () => server.status);
  await show('ban', () => door.ban('192.0.2.9'));
  await show('ban again', () => door.ban('192.0.2.9'));
  await show('unban', () => door.unban('192.0.2.9'));
  await show('jail', () => door.status);
  await show('add', () => door.addRegex('^nobody$').then((all) => all.length));
  await show('delete', () => door.delRegex('^nobody$').then((all) => all.length));
  await show('regexes', () => door.regex.then((all) => all.length));
  door.retries = 7;
  await show('retries', () => door.retries);
  await show('findTime', () => door.findTime);
  await show('useDNS', () => door.useDNS);
  await show('dbfile', () => server.dbfile);
  await show('bans', () => server.bans.then((all) => all.map(({ jail, ip, matches, failures }) => ({ jail, ip, matches, failures }))));
  await show('message', () => server.message(['status', 'door']));
  await show('wrong', () => server.message(['nosuch']));
})();
