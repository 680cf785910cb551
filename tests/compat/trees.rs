//! Small configuration trees, one for each rule of reading. `{dir}` stands for the directory.

/// A configuration directory.
pub struct Tree {
    /// The rule it is about.
    pub name: &'static str,
    /// Why our stream is another one, if it is on purpose.
    pub differs: Option<&'static str>,
    /// Paths and contents.
    pub files: &'static [(&'static str, &'static str)],
}

/// All of them.
#[rustfmt::skip]
pub const TREES: &[Tree] = &[
    Tree {
        name: "later layers win in order",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
maxretry=1
findtime=1
bantime=1
maxmatches=1
"#),
            ("jail.d/z.conf", r#"[j]
maxretry=2
findtime=2
bantime=2
"#),
            ("jail.local", r#"[j]
maxretry=3
findtime=3
"#),
            ("jail.d/a.local", r#"[j]
maxretry=4
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "drop in files are sorted by code point and dot files unseen",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
"#),
            ("jail.d/a.conf", r#"[j]
maxretry=1
"#),
            ("jail.d/B.conf", r#"[j]
maxretry=2
"#),
            ("jail.d/.z.conf", r#"[j]
maxretry=3
"#),
            ("jail.d/z.conf~", r#"[j]
maxretry=4
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "filters and actions have drop in folders too",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
action = a
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
            ("filter.d/f.d/x.conf", r#"[Definition]
failregex = ^y <HOST>
"#),
            ("action.d/a.d/x.local", r#"[Definition]
actionban = ban
"#),
            ("action.d/a.conf", r#"[Definition]
actionban = no
"#),
        ],
    },
    Tree {
        name: "a filter may exist only as local",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
"#),
            ("filter.d/f.local", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "names lead into folders and absolute ones replace the base",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = sub/f
[k]
enabled=true
filter = {dir}/abs/g
"#),
            ("filter.d/sub/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
            ("abs/g.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "a name with extension is not found",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f.conf
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "a python action becomes its path and json",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
action = x.py[a='ü "b', n="'\x", actname=zed]
 y.py
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "before and after includes and their local files",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[INCLUDES]
before = b.conf
after = sub/a.conf

  gone.conf
[Definition]
failregex = %(one)s%(two)s%(three)s%(four)s
one=f
two=f
three=f
four=f
"#),
            ("filter.d/b.conf", r#"[Definition]
one=b
two=b
three=b
"#),
            ("filter.d/b.local", r#"[Definition]
one=bl
zero=1
"#),
            ("filter.d/sub/a.conf", r#"[INCLUDES]
before = x.conf
[Definition]
three=a
"#),
            ("filter.d/sub/x.conf", r#"[Definition]
three=x
four=x
"#),
            ("filter.d/sub/a.local", r#"[Definition]
two=al
"#),
            ("filter.d/gone.local", r#"[Definition]
one=gone
"#),
        ],
    },
    Tree {
        name: "include names are interpolated within their file",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[INCLUDES]
before = %(which)s.conf
which = b
[Definition]
"#),
            ("filter.d/b.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "includes in a circle end",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[INCLUDES]
before = g.conf
[Definition]
failregex = f
x=f
"#),
            ("filter.d/g.conf", r#"[INCLUDES]
after = f.conf
   g.conf
[Definition]
failregex = g
usedns = no
"#),
        ],
    },
    Tree {
        name: "a file that includes itself is harmless",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[INCLUDES]
before = f.conf
[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "the includes section has exact case",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[Includes]
before = g.conf
[Definition]
failregex = ^x <HOST>
"#),
            ("filter.d/g.conf", r#"[Definition]
usedns = no
"#),
        ],
    },
    Tree {
        name: "comments continuations and blank lines",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
ignorecommand : a      ; first
  b;c
  # not part of it

  d # still value
  [e]
   f=g ;cut
;x
  h


maxretry= 1
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "names are lowered and carriage returns end lines",
        differs: None,
        files: &[
            ("jail.conf", "[DEFAULT]\r\nbackend = polling\r\naction =\r\n[J]\r\nENABLED = True\r\nIgnoreIP = 192.0.2.1\r\nFilter = f\r\nIgnoreCommand = a\r\n   b\r\n"),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "section names reach to the last bracket",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[a]b] junk
enabled=true
filter=f
[c d] ; comment
enabled = 1
filter=f
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "truth and numbers are read as python does",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
ignoreself = y
bantime.increment = ON
bantime.overalljails = 2
maxretry = +1_0
maxmatches = -3
maxlines = 4
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "numbers that are none become none",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
maxretry = 1.5
maxmatches =
maxlines = x
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "interpolation looks in the section then default and in others",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
x = D
[o]
x = O%(y)s
y = oy
[j]
enabled=1
filter=f
y = jy
ignorecommand = %(x)s %(default/x)s %(o/x)s %(X)s %(__name__)s %% %(o/backend)s
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "ten values may nest",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
ignorecommand = %(a1)s
a1 = %(a2)s
a2 = %(a3)s
a3 = %(a4)s
a4 = %(a5)s
a5 = %(a6)s
a6 = %(a7)s
a7 = %(a8)s
a8 = %(a9)s
a9 = %(a10)s
a10 = end
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "version and path are known in jails",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
ignorecommand = %(fail2ban_version)s %(fail2ban_confpath)s/x
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "garbage in an option nobody reads is harmless",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
junk = %(nowhere)s % x
[off]
port = %(nowhere)s
maxretry = %(gone)s
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "known is the overwritten value",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
ignorecommand = dd
[j]
enabled=1
filter=f
findtime = 1
"#),
            ("jail.local", r#"[j]
findtime = %(known/findtime)s0
ignorecommand = %(known/ignorecommand)s e
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "known in an including file is the included value",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[INCLUDES]
before=b.conf
[Definition]
failregex = %(known/failregex)s
   ^g %(known/foo)s
"#),
            ("filter.d/b.conf", r#"[DEFAULT]
foo=dfoo
[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "known in a jail is the filters value",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
failregex = ^jail
"#),
            ("jail.local", r#"[j]
failregex = %(known/failregex)s
   ^more %(known/foo)s
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
foo = 12<bar>
bar=b
"#),
        ],
    },
    Tree {
        name: "a jails options replace those of the filter",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
failregex =
usedns = raw
prefregex = ^p
maxlines = 7
datepattern = %%Y
journalmatch =
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
usedns=no
prefregex=^q
maxlines=2
ignoreregex=^i
datepattern=%%d
journalmatch = a=b
"#),
        ],
    },
    Tree {
        name: "usedns of the default section wins over the filter",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
usedns = warn
prefregex = dd
[j]
enabled=1
filter=f
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
usedns=no
maxlines=3
"#),
        ],
    },
    Tree {
        name: "tags are replaced innermost first",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f[mode=b]
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = <mdre-<mode>>
  <mdre-zz> <HOST> <a b> <> <<ip>> <MODE>
mdre-a = A
mdre-b = B<mdre-a>
mode = a
"#),
        ],
    },
    Tree {
        name: "tags reach other sections with their case",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[DEFAULT]
logtype=file
d=D
[Definition]
failregex = <lt_<logtype>/pre> <Up/x> <default/d> <known/e> <no/x>
e = E
[lt_file]
pre = P<e>%(q)s
q=Q
[Up]
x=X
"#),
        ],
    },
    Tree {
        name: "logtype follows the backend",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[a]
enabled=1
filter=f
[b]
enabled=1
backend=systemd[journalflags=1]
filter=f
logpath=/nowhere
[c]
enabled=1
filter=f[logtype=zed]
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = <logtype>
"#),
        ],
    },
    Tree {
        name: "arguments beat init beats definition beats default",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[a]
enabled=1
filter=f[failregex=arg, one=1]
[b]
enabled=1
filter=f
"#),
            ("filter.d/f.conf", r#"[DEFAULT]
usedns=no
datepattern=dd
[Definition]
failregex=def <one><two>
ignoreregex=def<one> <two> <three>
one=d1
two=d2
three=d3
[Init]
failregex=init
one=i1
two=i2<three>
"#),
        ],
    },
    Tree {
        name: "known in arguments is the files own value",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[a]
enabled=1
filter=f[agents="x|<known/agents>", q="<known/r>"]
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex=<agents> <q>
r = R
[Init]
agents=y
"#),
        ],
    },
    Tree {
        name: "arguments with percent are safe by tag",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f[zed="%%Y"]
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex=<zed>
datepattern=<zed> %%%%
"#),
        ],
    },
    Tree {
        name: "option lists in all their forms",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j0]
enabled=1
filter = f[one=1][two="2, ]3"]
[j1]
enabled=1
filter = f[one= " 2 " ,two=']']
[j2]
enabled=1
filter = f[one="1"] [two='2"']
[j3]
enabled=1
filter = f[one=a=b;c,]
[j4]
enabled=1
filter = f[one=,two=]
[j5]
enabled=1
filter = f[]
[j6]
enabled=1
filter = f[one=1, one=2]
[j7]
enabled=1
filter = f[one=1]junk
[j8]
enabled=1
filter = f[one=1
[j9]
enabled=1
filter = f[one
[j10]
enabled=1
filter = [one=1]
[j11]
enabled=1
filter = f[one two]
[j12]
enabled=1
filter = f[one=1, two three]
[j13]
enabled=1
filter = f[one="1"x]
[j14]
enabled=1
filter = f[one=[1]]
[j15]
enabled=1
filter = f[one=<y[1]>]
[j16]
enabled=1
filter = f [one=1]
[j17]
enabled=1
filter = f g
[j18]
enabled=1
filter = f[one =1]
[j19]
enabled=1
filter = f[one=1]g[two=2]
[j20]
enabled=1
filter = f]
[j21]
enabled=1
filter = f[one='1
  2']
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex=<one>|<two>|
"#),
        ],
    },
    Tree {
        name: "several actions on one line and over lines",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
action = a[x=1] b[y="2 3",
   z=4][w=5] c
  
   a[actname=q,
  x='1']
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
            ("action.d/a.conf", r#"[Definition]
actionban=a
"#),
            ("action.d/b.conf", r#"[Definition]
actionban=b
"#),
            ("action.d/c.conf", r#"[Definition]
actionban=c <name> <actname>
"#),
        ],
    },
    Tree {
        name: "malformed actions skip only their jail",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j0]
enabled=1
filter=f
action = a[x y]
[j1]
enabled=1
filter=f
action = a, b
[j2]
enabled=1
filter=f
action = a[x=1]a[y=2]
[j3]
enabled=1
filter=f
action = a [x=1]
[j4]
enabled=1
filter=f
action = nope
[j5]
enabled=1
filter=f
action = a[x="1
[j6]
enabled=1
filter=f
action = a
  nope[x=1]
[j7]
enabled=1
filter=f
action = a[x="u \"b", n='"', z=1]
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
            ("action.d/a.conf", r#"[Definition]
actionban=a
"#),
        ],
    },
    Tree {
        name: "actions are named after file and name",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
action = a[name=foo] a[name=j-2] a[name=o, actname=xx] a[name=jx] a[name=j]
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
            ("action.d/a.conf", r#"[Definition]
actionban=<name> <actname>
"#),
        ],
    },
    Tree {
        name: "conditional sections keep their tags",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
action = a[blk=mine]
   b
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
            ("action.d/a.conf", r#"[Definition]
actionban=ban <blk> <set> <ip>
set = s-<name>-<sfx>
actionstop=<sfx>
[Init]
blk=drop
sfx=4
[Init?family=inet6]
blk=drop6
sfx=6
only=1
[Definition?family=inet6]
actionstop=six
"#),
            ("action.d/b.conf", r#"[INCLUDES]
before=a.conf
[Init?family=inet6]
blk=x%(blk)s
[Init]
sfx=%(known/sfx)s4
"#),
        ],
    },
    Tree {
        name: "run time tags are not replaced in actions",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
action = a[timeout=5]
bantime=7
maxretry=9
ignoreself=0
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
            ("action.d/a.conf", r#"[Definition]
actionban=<matches> <ipmatches> <timeout> <bantime> <maxretry> <ignoreself> <findtime> %(maxretry)s %(ignoreself)s <enabled> <filter>
actionunban=%(bantime)s
matches=no
"#),
        ],
    },
    Tree {
        name: "action options in init and arguments",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
action = a[norestored=1, actionban="arg <x>", X=3]
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
            ("action.d/a.conf", r#"[Definition]
actionban=def
actionstart_on_demand=yes
actionrepair_on_unban = maybe
actionprolong=p
actionreban=r
actionrepair=q
actionreload=l
actionflush=
[Init]
actionstop=stop <x> <X>
x=1
"#),
        ],
    },
    Tree {
        name: "an action with one property or none",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
action = a
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
            ("action.d/a.conf", r#"[Definition]
"#),
        ],
    },
    Tree {
        name: "journal matches are split like a shell does",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
journalmatch = _A="x y" + _B='z w'
  _C=a\ b "q\"r"

  _D=1
"#),
        ],
    },
    Tree {
        name: "one regex is set and several are a list",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = 
  ^a

  ^b
ignoreregex = ^i
"#),
        ],
    },
    Tree {
        name: "a filter without definition still has init",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[DEFAULT]
usedns=no
[Init]
failregex=^i
maxlines=2
"#),
        ],
    },
    Tree {
        name: "log paths with wildcards and places",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
logpath = {dir}/x.log tail
  {dir}/logs/[a-b]?.log
  {dir}/logs/zz*
  {dir}/with blank.log head
  {dir}/logs/.*.log
  {dir}/l*/a1.log tail
  {dir}/gone
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
            ("logs/a1.log", ""),
            ("logs/b2.log", ""),
            ("logs/c3.log", ""),
            ("logs/zz", ""),
            ("logs/.hid.log", ""),
            ("with blank.log", ""),
        ],
    },
    Tree {
        name: "ignoreip is split at blanks commas and newlines",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
ignoreip = 192.0.2.1, 198.51.100.0/24 ,,2001:db8::/32
   host.example  
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "every option of a jail in order",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
logencoding=utf-8
logtimezone=UTC
ignorecache=key="<ip>"
ignoreip=192.0.2.1
ignoreself=1
ignorecommand=c
bantime.overalljails=1
bantime.rndtime=1
bantime.maxtime=2
bantime.multipliers=1 2
bantime.formula=f
bantime.factor=2
bantime.increment=1
bantime=5
findtime=6
maxmatches=7
maxretry=8
logpath={dir}/x.log
datepattern=d
failregex=^f
ignoreregex=^i
usedns=no
prefregex=^p
maxlines=3
journalmatch=a=b
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "general options and threads",
        differs: None,
        files: &[
            ("fail2ban.conf", r#"[DEFAULT]
loglevel = debug
dbfile = None
[Definition]
logtarget = SYSLOG[facility=x, format="a, b"]
dbmaxmatches = 1_0
allowipv6 = Yes
socket = /s
[Thread]
stacksize = 64
"#),
            ("fail2ban.local", r#"[DEFAULT]
logtarget = STDOUT
loglevel = INFO
[Definition]
dbpurgeage = 2d
"#),
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "general options without a definition section",
        differs: None,
        files: &[
            ("fail2ban.conf", r#"[DEFAULT]
loglevel = DEBUG
"#),
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "a stored tag value is scanned again and self tags in jails stay",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
failregex = <foo> <HOST>
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
foo=bar
"#),
        ],
    },
    Tree {
        name: "texts are quoted as python does",
        differs: None,
        files: &[
            ("jail.conf", "[DEFAULT]\nbackend = polling\naction =\n[j]\nenabled = true\nfilter = f\nignorecommand = it's \"q\" \\ é \u{200b}\u{a0}\u{ad}x\u{f0000}😀 'y'\n"),
            ("filter.d/f.conf", "[Definition]\nfailregex = it's\n  \"q\" 'r'\n  \t\\\\t\u{7}\n"),
        ],
    },
    Tree {
        name: "sections with conditions are jails of the first part",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
[k?x=y]
enabled=1
filter=f
[k]
enabled=1
filter=f
[KNOWN/q]
enabled=1
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "the worked example of the specification",
        differs: None,
        files: &[
            ("jail.conf", r#"[DEFAULT]
banaction = fw
port = 0:65535
mode = normal
backend = polling
filter = %(__name__)s[mode=%(mode)s]
action_ = %(banaction)s[port="%(port)s"]
action = %(action_)s
maxretry = 5
findtime = 10m
[door]
port = 22,2222
logpath = {dir}/x.log
"#),
            ("jail.d/10-on.conf", r#"[door]
enabled = true
maxretry = 3
"#),
            ("jail.local", r#"[DEFAULT]
ignoreip = 192.0.2.1, 198.51.100.0/24
[door]
mode = strict
failregex = %(known/failregex)s
            ^late <HOST>$
action = %(known/action)s
         mail[dest="a@example.org,b@example.org", actname=mail-ops]
"#),
            ("filter.d/base.conf", r#"[DEFAULT]
logtype = file
_prog = \S+
_pre = <lt_<logtype>/pre>
[lt_file]
pre = \s*\S+ <_prog>\[\d+\]:\s+
[lt_journal]
pre = \S+ <_prog>\[\d+\]:\s+
"#),
            ("filter.d/door.conf", r#"[INCLUDES]
before = base.conf
[DEFAULT]
_prog = doord
[Definition]
prefregex = ^<F-MLFID>%(_pre)s</F-MLFID><F-CONTENT>.+</F-CONTENT>$
failregex = ^<F-NOFAIL>hello</F-NOFAIL> <HOST>$
            ^wrong key for <F-USER>\S+</F-USER>$
            <mdre-<mode>>
mdre-normal =
mdre-strict = ^probe from <ADDR>
mode = normal
datepattern = {^LN-BEG}
"#),
            ("action.d/fw.conf", r#"[Definition]
actionstart = fw new <set>
actionban = fw add <set> <ip> <blk>
set = f2b-<name><sfx>
[Init]
port = 1
sfx = 4
blk = drop
[Init?family=inet6]
sfx = 6
"#),
            ("action.d/mail.conf", r#"[Definition]
actionban = printf "%%s" "<matches>" | mail -s "<name>: <F-USER>" <dest>
[Init]
dest = root
"#),
        ],
    },
    Tree {
        name: "a reference to nowhere",
        differs: Some("only this jail is left out"),
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
maxretry = %(nowhere)s
[good]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "a reference in a circle",
        differs: Some("only this jail is left out"),
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
ignorecommand = %(ignorecommand)s
[good]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "a lone percent sign",
        differs: Some("only this jail is left out"),
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
ignorecommand = 5% off
[good]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "eleven nested values",
        differs: Some("only this jail is left out"),
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
ignorecommand = %(a1)s
a1 = %(a2)s
a2 = %(a3)s
a3 = %(a4)s
a4 = %(a5)s
a5 = %(a6)s
a6 = %(a7)s
a7 = %(a8)s
a8 = %(a9)s
a9 = %(a10)s
a10 = %(a11)s
a11 = end %%
[good]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "a duplicate option in a section",
        differs: Some("only this jail is left out"),
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
maxretry = 1
maxretry = 2
[good]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "a line without delimiter in a filter",
        differs: Some("only this jail is left out"),
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = g
[good]
enabled = true
filter = f
"#),
            ("filter.d/g.conf", r#"[Definition]
failregex = ^x <HOST>
nonsense
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "tags that refer to themselves",
        differs: Some("only this jail is left out"),
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = g
[good]
enabled = true
filter = f
"#),
            ("filter.d/g.conf", r#"[Definition]
failregex = <a>
a = <b>
b = <a>
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "an error inside an action",
        differs: Some("only this jail is left out"),
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[j]
enabled = true
filter = f
action = a
[good]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
            ("action.d/a.conf", r#"[Definition]
actionban = %(nowhere)s
"#),
        ],
    },
    Tree {
        name: "an error in the filter option of a jail that is off",
        differs: Some("a jail that is off harms nobody"),
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[good]
enabled = true
filter = f
[off]
filter = %(nowhere)s
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "capitals in a section reference",
        differs: Some("capitals are found"),
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[Sec]
x = sx
[good]
enabled = true
filter = f
ignorecommand = %(Sec/x)s %(DEFAULT/backend)s
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "a known chain over three files",
        differs: Some("every older value is kept"),
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[good]
enabled = true
filter = f
"#),
            ("jail.d/a.conf", r#"[good]
ignorecommand = a
"#),
            ("jail.local", r#"[good]
ignorecommand = %(known/ignorecommand)s b
"#),
            ("jail.d/b.local", r#"[good]
ignorecommand = %(known/ignorecommand)s c
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "an unused broken option of a filter",
        differs: Some("what nobody reads is harmless"),
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[good]
enabled = true
filter = f
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
unused = %(nowhere)s
"#),
        ],
    },
    Tree {
        name: "a filter argument that is part of the word datepattern",
        differs: Some("1.0.2 sends it as a command, which its own server refuses; 1.1.1 does not"),
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[good]
enabled=true
filter=f[date=1]
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
    Tree {
        name: "an argument with a condition",
        differs: Some("an addition of 1.1.1"),
        files: &[
            ("jail.conf", r#"[DEFAULT]
backend = polling
action =
[good]
enabled = true
filter = f
action = a[blk=1, blk?family=inet6=2]
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
            ("action.d/a.conf", r#"[Definition]
actionban=<blk>
[Init]
blk=0
"#),
        ],
    },
    Tree {
        name: "a missing jail conf",
        differs: Some("our own jail.conf lies below: sshd is protected as well"),
        files: &[
            ("jail.local", r#"[good]
enabled=true
backend=polling
filter=f
action=
"#),
            ("filter.d/f.conf", r#"[Definition]
failregex = ^x <HOST>
"#),
        ],
    },
];
