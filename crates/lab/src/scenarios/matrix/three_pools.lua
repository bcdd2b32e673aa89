-- Each request of a connection goes to the next pool. An answer of another length than 1000 bytes ends the run with an error.
local number = 0

request = function()
    number = number + 1
    local pool = string.sub("abc", number % 3 + 1, number % 3 + 1)
    return wrk.format("GET", "/" .. pool .. "/1KB")
end

response = function(status, headers, body)
    if status == 200 and #body ~= 1000 then
        io.stderr:write("an answer of " .. #body .. " bytes\n")
        os.exit(1)
    end
end
