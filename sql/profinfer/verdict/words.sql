-- How the verdict's sentences write numbers and names.

-- A time in milliseconds, with three digits or more.
CREATE PERFETTO FUNCTION _in_ms(
  -- Time in ns.
  ns DOUBLE
)
-- Text.
RETURNS STRING AS
SELECT
  CASE
    WHEN $ns IS NULL
    THEN NULL
    WHEN abs($ns) >= 99.95e6
    THEN printf('%,d ms', cast_int!(round($ns / 1e6)))
    WHEN abs($ns) >= 9.995e6
    THEN printf('%.1f ms', $ns / 1e6)
    WHEN abs($ns) >= 0.9995e6
    THEN printf('%.2f ms', $ns / 1e6)
    ELSE printf('%.3f ms', $ns / 1e6)
  END;

-- The same of whole and of broken numbers: a function takes one or the other.
CREATE PERFETTO MACRO _ms(
  -- Time in ns.
  ns Expr
)
RETURNS Expr AS
_in_ms(1.0 * ($ns));

-- A share in percent.
CREATE PERFETTO FUNCTION _in_percent(
  -- Share of 1.
  share DOUBLE
)
-- Text.
RETURNS STRING AS
SELECT
  CASE
    WHEN $share IS NULL
    THEN NULL
    WHEN $share >= 0.0995
    THEN printf('%.0f %%', 100 * $share)
    ELSE printf('%.1f %%', 100 * $share)
  END;

-- A number with three digits or more.
CREATE PERFETTO FUNCTION _in_digits(
  -- Number.
  number DOUBLE
)
-- Text.
RETURNS STRING AS
SELECT
  CASE
    WHEN $number IS NULL
    THEN NULL
    WHEN $number >= 99.95
    THEN printf('%,d', cast_int!(round($number)))
    WHEN $number >= 9.995
    THEN printf('%.1f', $number)
    ELSE printf('%.2f', $number)
  END;

-- A number of things.
CREATE PERFETTO FUNCTION _counted(
  -- How many.
  number LONG,
  -- What one is called.
  noun STRING
)
-- Text; NULL where it is not known how many.
RETURNS STRING AS
SELECT
  printf('%,d ', $number) || $noun || iif($number = 1, '', 's')
WHERE $number IS NOT NULL;

-- A name, cut where it is long: it comes from whoever was recorded.
CREATE PERFETTO FUNCTION _in_short(
  -- Name.
  name STRING
)
-- Text.
RETURNS STRING AS
SELECT
  iif(length($name) > 48, substr($name, 1, 47) || '…', $name);
