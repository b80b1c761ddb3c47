-- An address as the identity of whoever has it: IPv4 that is written as IPv6 (mapped, NAT64) unfolded, other IPv6 by its
-- /64, since one customer has all of that; what is no address is `unknown`.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_address(written text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _address inet;
BEGIN
    _address := host(written::inet)::inet;
    IF _address IS NULL THEN
        RETURN 'unknown';
    ELSIF family(_address) = 4 THEN
        RETURN host(_address);
    ELSIF _address <<= '::ffff:0:0/96' THEN
        RETURN host('0.0.0.0'::inet + (_address - '::ffff:0:0'::inet));
    ELSIF _address <<= '64:ff9b::/96' THEN
        RETURN host('0.0.0.0'::inet + (_address - '64:ff9b::'::inet));
    END IF;
    RETURN network(set_masklen(_address, 64))::text;
EXCEPTION WHEN invalid_text_representation THEN
    RETURN 'unknown';
END
$function$;
