-- How the files of sources were found.

CREATE VIEW lakehouse.discovery_status WITH (security_barrier) AS
SELECT s.name AS source, d.watched, d.directories AS watched_directories, d.listings,
       d.listed AS last_listing, pg_catalog.make_interval(secs => d.listing_ms OPERATOR(pg_catalog./) 1000) AS last_listing_time,
       d.listed_files AS last_listing_files, d.unmarked AS unmarked_files, d.unreadable,
       d.looks, d.looked_at AS names_looked_at, d.found_told AS files_found_by_event,
       d.found_listed AS files_found_by_listing, d.found_backfill AS files_found_only_by_backfill
  FROM lakehouse.discovery d
  JOIN lakehouse.source s ON s.source_id OPERATOR(pg_catalog.=) d.source_id
 WHERE lakehouse._may_see(s.owner);
COMMENT ON VIEW lakehouse.discovery_status IS 'how the files of the sources that the current role owns, or of all for members of pg_monitor, were found: by listing everything, or by looking at the names that the system told of. Counts since the source was created';
COMMENT ON COLUMN lakehouse.discovery_status.source IS 'name of the source';
COMMENT ON COLUMN lakehouse.discovery_status.watched IS 'whether the system tells all that happens in its directories, so that listings are backfills; false on network file systems, beyond 4,096 directories, with discovery "listing" and for sources that run on demand';
COMMENT ON COLUMN lakehouse.discovery_status.watched_directories IS 'directories that were watched at the last listing';
COMMENT ON COLUMN lakehouse.discovery_status.listings IS 'listings of everything';
COMMENT ON COLUMN lakehouse.discovery_status.last_listing IS 'when the last one began';
COMMENT ON COLUMN lakehouse.discovery_status.last_listing_time IS 'how long it took, with the comparison with the ledger';
COMMENT ON COLUMN lakehouse.discovery_status.last_listing_files IS 'names in it whose size and time were asked for';
COMMENT ON COLUMN lakehouse.discovery_status.unmarked_files IS 'files that waited for their marker then (option done_marker)';
COMMENT ON COLUMN lakehouse.discovery_status.unreadable IS 'directories that could not be read then, with the reason; 100 at most';
COMMENT ON COLUMN lakehouse.discovery_status.looks IS 'looks at names that the system told of';
COMMENT ON COLUMN lakehouse.discovery_status.names_looked_at IS 'names in these whose size and time were asked for';
COMMENT ON COLUMN lakehouse.discovery_status.files_found_by_event IS 'files that these brought to the ledger';
COMMENT ON COLUMN lakehouse.discovery_status.files_found_by_listing IS 'files that listings brought to the ledger';
COMMENT ON COLUMN lakehouse.discovery_status.files_found_only_by_backfill IS 'files among these that were there although the system tells all and had not told of them: lost events';
