# The result of a flow does not depend on how its input was cut into loads and
# runs: random inserts, updates and deletes in three tables, random slices (one
# to three loads) of random flows at random moments; whenever everything was run,
# each target is compared, row by row, with the flow's whole query. Then once more
# with writers and runs at the same time.
use strict;
use warnings;

use FindBin;
use IPC::Run;
use lib "$FindBin::RealBin/../perl";
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = seed();
my $rounds = $ENV{LAKEHOUSE_ROUNDS} || 60;
my $node = lakehouse_node('delta_random');

$node->safe_psql('postgres', 'CREATE SCHEMA dr');
$node->safe_psql('postgres', <<'END');
SET search_path = dr;
create table a(id int, k int, v text);
create table b(id int, k int, w int);
create table c(id int, k int, z int);
create table m1(id serial primary key, k int, g text, v int);
create table m2(id serial primary key, k int, h text, w int);
create table m3(id serial primary key, k int, z int);
create index on m2(k);
create table s(k int, name text);
insert into s select i, 'n'||i from generate_series(1,4) i;
create view av as select x.id, x.k, y.w from a x join b y on x.k = y.k;
create table flow_list (name text primary key, target text, query text, cols text);
create table compared (round int, name text, lacks bigint, extra bigint);
create table failed (round int, name text, error text);
create procedure make(name text, mode text, query text, cols text, keys text[] default '{}', streaming text[] default '{}')
language plpgsql as $$
begin
  perform lakehouse.create_flow(name, query, 'dr.t_'||name, mode, keys => keys, streaming => streaming,
    sequence_by => case mode when 'scd1' then '{sq}' else '{}' end::text[], max_loads => 1 + (random()*2.99)::int % 3);
  insert into flow_list values (name, 'dr.t_'||name, case when mode in ('insert_only') then 'select distinct '||cols||' from ('||query||') d' else query end, cols);
end $$;
create procedure check_flows(round int) language plpgsql as $$
declare f record; d bigint; e bigint;
begin
  for f in select * from flow_list loop
    execute format('select count(*) from (select %1$s from (%2$s) q except all select %1$s from %3$s) x', f.cols, f.query, f.target) into d;
    execute format('select count(*) from (select %1$s from %3$s except all select %1$s from (%2$s) q) x', f.cols, f.query, f.target) into e;
    insert into compared values (round, f.name, d, e);
  end loop;
end $$;
create procedure mutate() language plpgsql as $$
declare r int := (random()*11)::int;
begin
  if r in (0,1) then insert into a select (random()*100)::int, nullif((random()*5)::int,0), 'v'||(random()*3)::int from generate_series(1,(random()*4)::int);
  elsif r in (2) then insert into b select (random()*100)::int, nullif((random()*5)::int,0), (random()*9)::int from generate_series(1,(random()*4)::int);
  elsif r in (3) then insert into c select (random()*100)::int, nullif((random()*5)::int,0), (random()*9)::int from generate_series(1,(random()*3)::int);
  elsif r in (4) then insert into m1(k,g,v) select nullif((random()*5)::int,0), nullif('g'||(random()*4)::int,'g0'), (random()*9)::int from generate_series(1,(random()*5)::int);
  elsif r in (5) then insert into m2(k,h,w) select nullif((random()*5)::int,0), nullif('h'||(random()*3)::int,'h0'), (random()*9)::int from generate_series(1,(random()*3)::int);
  elsif r in (6) then insert into m3(k,z) select nullif((random()*5)::int,0), (random()*9)::int from generate_series(1,(random()*2)::int);
  elsif r in (7) then update m1 set v = v+1, g = case when random()<0.5 then g else nullif('g'||(random()*4)::int,'g0') end, k = case when random()<0.5 then k else (random()*5)::int end where random()<0.3;
  elsif r in (8) then update m2 set w = w+1, h = case when random()<0.5 then h else nullif('h'||(random()*3)::int,'h0') end, k = case when random()<0.5 then k else (random()*5)::int end where random()<0.3;
  elsif r in (9) then delete from m1 where random()<0.2;
  elsif r in (10) then delete from m2 where random()<0.2; delete from m3 where random() < 0.3;
  else update m3 set z = z+1, k = (random()*5)::int where random()<0.4; if random()<0.1 then truncate m3; end if;
  end if;
end $$;
create procedure go(seed int, rounds int) language plpgsql as $$
declare n int;
begin
  perform setseed((seed % 1000000) / 1000000.0);
  for i in 1..10 loop call mutate(); commit; end loop;
  call make('a1','append','select a.id, a.v, b.w from a join b on a.k=b.k','id,v,w','{}','{a,b}');
  call make('a2','append','select x.id i, y.id j from a x, a y where x.k=y.k and x.id<=y.id','i,j');
  call make('a3','append','select a.id i, b.id j, c.id l from a join b using(k) join c using(k)','i,j,l','{}','{a,b,c}');
  call make('a4','append','with q as (select id,k from a where v <> ''v1'') select x.id i, y.id j from q x join q y using (k)','i,j');
  call make('a5','append','select av.id, av.w, a.v from av join a on a.k = av.k and a.id > av.id','id,w,v');
  call make('a6','append','select u.id i, c.id j from (select id,k from a union all select id,k from b where w>3) u join c using (k)','i,j');
  call make('a7','append','select a.id, s.name, l.w2 from a left join s on s.k=a.k, lateral (select b.w*2 w2 from b where b.k=a.k) l','id,name,w2');
  call make('a8','append','select a.id, to_jsonb(a) - ''_load_id'' j from a where exists (select from s where s.k=a.k) union all select b.id, to_jsonb(b) - ''_load_id'' from b','id,j');
  call make('k1','insert_only','select a.id, a.k from a where a.k is not null','id','{id}');
  call make('k2','scd1','select a.v gg, a.id vv, a._load_id sq from a where a.v is not null','gg,vv,sq','{gg}');
  update flow_list set query = 'select distinct on (v) v gg, id vv, _load_id sq from a where v is not null order by v, _load_id desc, id desc' where name = 'k2';
  call make('g1','aggregate','select g, h, count(*) n, sum(v*w) x from m1 join m2 using(k) group by g,h','g,h,n,x','{}','{m1,m2}');
  call make('g2','aggregate','select g, count(*) n, count(m3.id) c3, sum(z) sz from m1 left join m3 on m3.k=m1.k group by g','g,n,c3,sz','{}','{m3}');
  call make('g3','aggregate','select m1.k, g, h, v, w from m1 join m2 using(k)','k,g,h,v,w','{k,g}');
  call make('g4','aggregate','select g, v%3 r, sum(v) x from m1 group by g, v%3 having count(*) > 1','g,r,x');
  call make('g5','aggregate','select distinct k, h from m2','k,h');
  call make('g6','aggregate','select kk, count(*) n, sum(q) x from (select k kk, v q from m1 union all select k, w from m2) u group by kk','kk,n,x');
  call make('g7','aggregate','select x.g, max(y.v) my, count(*) n from m1 x join m1 y on x.k=y.k and x.v < y.v group by x.g','g,my,n');
  call make('g8','aggregate','select m1.k, g, h, z, count(*) n from m1 join m2 on m1.k=m2.k left join m3 on m3.k = m2.k group by m1.k, g, h, z','k,g,h,z,n','{k,g}');
  call make('g9','aggregate','with q as (select k, g from m1 where v > 2) select p.g, count(*) n from q p join q r using (k) group by p.g','g,n');
  call make('g10','aggregate','select m1.g, count(*) n from m1 left join m3 on m3.k=m1.k where m3.id is null group by m1.g','g,n');
  call make('c1','complete','select g, max(n) mx from (select g, k, count(*) n from m1 where not exists (select from m3 where m3.k = m1.k) group by g,k) x group by g','g,mx');
  call make('c2','complete','select h, w from m2','h,w');
  for i in 1..rounds loop
    for j in 1..(1+random()*3)::int loop call mutate(); commit; end loop;
    if random() < 0.5 then
      perform lakehouse.run();
    else
      -- a random part of the flows, one by one
      perform lakehouse.run_flow(name) from flow_list where random() < 0.5;
      commit;
      continue;
    end if;
    commit;
    insert into failed select i, name, error from lakehouse.flow_status where failures > 0;
    call check_flows(i);
    commit;
  end loop;
  perform lakehouse.run(); commit;
  call check_flows(rounds + 1);
end $$;
END
$node->safe_psql('postgres', "SET search_path = dr; SET client_min_messages = warning; CALL go($seed, $rounds)",
	timeout => 600);

is($node->safe_psql('postgres', 'SELECT string_agg(name || $$: $$ || error, $$; $$) FROM (SELECT DISTINCT name, error FROM dr.failed) f'),
	'', 'no flow failed');
my $compared = $node->safe_psql('postgres', 'SELECT count(DISTINCT round) FROM dr.compared');
cmp_ok($compared, '>=', 5, "targets were compared in $compared rounds");
my @flows = split /\n/, $node->safe_psql('postgres', 'SELECT name FROM dr.flow_list ORDER BY name');
foreach my $flow (@flows)
{
	is($node->safe_psql('postgres', "SELECT string_agg(format('round %s lacks %s rows and has %s too many', round, lacks, extra), '; ' ORDER BY round)"
		. " FROM dr.compared WHERE name = '$flow' AND lacks + extra > 0"),
		'', "flow $flow gives what its whole query gives");
	cmp_ok($node->safe_psql('postgres', "SELECT sum(inserted) FROM lakehouse.flow_run_status WHERE name = '$flow'"),
		'>', 0, "flow $flow gave rows");
}
# The same while writers and runs work at the same time.
{
	my $writes = $node->basedir . '/write.sql';
	my $runs = $node->basedir . '/run.sql';
	append_to_file($writes, "SET search_path = dr; CALL mutate();\n");
	append_to_file($runs, "INSERT INTO dr.failed SELECT 0, name, error FROM lakehouse.run() WHERE status = 'failed';\n");
	my @pgbench = ('pgbench', '-n', '-h', $node->host, '-p', $node->port, '--max-tries=10', '-c', '2', '-T', '6');
	my $log = $node->basedir . '/pgbench.log';
	# at a rate that a run keeps up with, however fast the machine is
	my $writer = IPC::Run::start([@pgbench, '-R', '30', '-f', $writes, 'postgres'], '>', $log, '2>&1');
	my $runner = IPC::Run::start([@pgbench, '-f', $runs, 'postgres'], '>', "$log.runs", '2>&1');
	ok($writer->finish, 'writers ended well');
	ok($runner->finish, 'runs at the same time ended well');
	$node->safe_psql('postgres', 'SET search_path = dr; SELECT lakehouse.run(); DELETE FROM compared; CALL check_flows(0)');
	is($node->safe_psql('postgres', "SELECT string_agg(format('%s lacks %s rows and has %s too many', name, lacks, extra), '; ') FROM dr.compared WHERE lacks + extra > 0"),
		'', 'after all of them every flow gives what its whole query gives');
	is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT name || ': ' || error, '; ') FROM dr.failed WHERE error !~ 'deadlock'"), '', 'no run failed');
}
# nothing waits for old images once everything was run; a further run deletes them
$node->safe_psql('postgres', 'SELECT lakehouse.drop_flow(name) FROM dr.flow_list');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_class WHERE relnamespace = 'lakehouse_data'::regnamespace AND relname LIKE 'old%' AND relkind = 'r')),
	'0', 'no side table is left without flows');
is($node->safe_psql('postgres', 'SELECT count(*) FROM lakehouse.pending'), '0', 'nothing is queued without flows');
$node->stop;
done_testing();
